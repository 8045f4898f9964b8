;; expect: bad-package
;; says: does not export a function `_start`
(module
  (memory (export "memory") 1)
  (func (export "main")))
