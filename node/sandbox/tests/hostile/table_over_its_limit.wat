;; expect: bad-package
;; says: elements of its tables: 10001, the limit is 10000
(module
  (table 10001 funcref)
  (memory (export "memory") 1)
  (func (export "_start")))
