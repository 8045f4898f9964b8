;; expect: output
(module
  (import "msm_v1" "call" (func $call (param i32 i32 i32 i32) (result i32)))
  (import "msm_v1" "take" (func $take (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "progress0.5gps.positionnet.fetchimage.decode{}")
  (func (export "_start")
    (drop (call $call (i32.const 0) (i32.const 8) (i32.const 8) (i32.const 3)))
    (if (i32.ne (call $take (i32.const 65535) (i32.const 100)) (i32.const -21)) (then (unreachable)))))
