;; expect: bad-package
;; says: it imports e [2Jnv .  , which
(module
  (import "e\1b[2Jnv\0a" "\00\07" (func))
  (memory (export "memory") 1)
  (func (export "_start")))
