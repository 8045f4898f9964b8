;; expect: bad-package
;; says: elements of its tables: 10001
(module
  (table 5001 funcref)
  (table 5000 funcref)
  (memory (export "memory") 1)
  (func (export "_start")))
