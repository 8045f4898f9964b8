;; expect: bad-package
;; says: not a module that runs here
(module
  (memory (export "memory") 1 2 shared)
  (func (export "_start")))
