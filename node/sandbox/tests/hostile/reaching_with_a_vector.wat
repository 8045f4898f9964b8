;; expect: service-failed
;; says: reached outside its memory
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (v128.store offset=0xfffffff0 (i32.const -1) (v128.const i64x2 1 2))))
