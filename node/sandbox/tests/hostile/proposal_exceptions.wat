;; expect: bad-package
;; says: not a module that runs here
(module
  (tag $t)
  (memory (export "memory") 1)
  (func (export "_start") (throw $t)))
