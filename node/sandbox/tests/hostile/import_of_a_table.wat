;; expect: bad-package
;; says: is no function
(module
  (import "msm_v1" "table" (table 1 funcref))
  (memory (export "memory") 1)
  (func (export "_start")))
