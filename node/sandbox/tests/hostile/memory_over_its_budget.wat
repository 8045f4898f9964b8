;; expect: bad-package
;; says: begins with 67174400 bytes, the limit is 67108864
(module
  (memory (export "memory") 1025)
  (func (export "_start")))
