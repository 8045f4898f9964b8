;; expect: output
(module
  (import "msm_v1" "take" (func $take (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (if (i32.ne (call $take (i32.const 0) (i32.const 100)) (i32.const 0)) (then (unreachable)))))
