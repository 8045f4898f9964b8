;; expect: bad-package
;; says: is no function
(module
  (import "msm_v1" "call" (global i32))
  (memory (export "memory") 1)
  (func (export "_start")))
