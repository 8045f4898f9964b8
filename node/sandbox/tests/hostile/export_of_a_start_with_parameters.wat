;; expect: bad-package
;; says: without parameters
(module
  (memory (export "memory") 1)
  (func (export "_start") (param i32)))
