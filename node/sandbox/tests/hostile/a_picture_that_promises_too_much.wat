;; expect: output
;; asks: image
(module
  (import "msm_v1" "call" (func $call (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "progress0.5gps.positionnet.fetchimage.decode{}")
  (data (i32.const 100) "\89PNG\0d\0a\1a\0a\00\00\00\0dIHDR\00\00\00\01\00\00\00\01\08\06\00\00\00\1f\15\c4\89")
  (func (export "_start")
    (i32.store (i32.const 116) (i32.const 0xffffff7f))
    (i32.store (i32.const 120) (i32.const 0xffffff7f))
    (if (i32.ne (call $call (i32.const 32) (i32.const 12) (i32.const 100) (i32.const 33)) (i32.const -29)) (then (unreachable)))))
