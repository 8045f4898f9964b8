;; expect: service-failed
;; says: reached outside its memory
(module
  (memory (export "memory") 1)
  (data (i32.const 65535) "abc")
  (func (export "_start")
    (nop)))
