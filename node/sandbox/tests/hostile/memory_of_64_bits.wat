;; expect: bad-package
;; says: not a module that runs here
(module
  (memory (export "memory") i64 1)
  (func (export "_start")))
