;; expect: service-failed
;; says: reached outside its memory
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (memory.grow (i32.const 3)))
    (i32.store8 (i32.const 0x40000) (i32.const 1))))
