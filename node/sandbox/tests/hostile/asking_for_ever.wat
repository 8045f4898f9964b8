;; expect: soft-deadline
(module
  (import "msm_v1" "call" (func $call (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "progress0.5gps.positionnet.fetchimage.decode{}")
  (func (export "_start")
    (loop $l (drop (call $call (i32.const 0) (i32.const 8) (i32.const 8) (i32.const 3))) (br $l))))
