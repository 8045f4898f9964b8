;; expect: bad-package
;; says: bytes of memory at its start: 268500992, the limit is 268435456
(module
  (memory (export "memory") 4097)
  (func (export "_start")))
