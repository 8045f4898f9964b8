;; expect: bad-package
;; says: msm_v1.memory, which is no function
(module
  (import "msm_v1" "memory" (memory 1))
  (export "memory" (memory 0))
  (func (export "_start")))
