;; expect: bad-package
;; says: tables: 5, the limit is 4
(module
  (table 1 funcref)
  (table 1 funcref)
  (table 1 funcref)
  (table 1 funcref)
  (table 1 funcref)
  (memory (export "memory") 1)
  (func (export "_start")))
