;; expect: output
(module
  (import "msm_v1" "call" (func $call (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "progress0.5gps.positionnet.fetchimage.decode{}")
  (func (export "_start")
    (if (i32.ne (call $call (i32.const 0) (i32.const 7) (i32.const 0) (i32.const 0)) (i32.const -52)) (then (unreachable)))))
