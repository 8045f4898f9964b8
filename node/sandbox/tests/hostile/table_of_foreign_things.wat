;; expect: bad-package
(module
  (table 1 externref)
  (memory (export "memory") 1)
  (func (export "_start")))
