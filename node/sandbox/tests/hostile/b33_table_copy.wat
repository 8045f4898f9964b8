;; expect: soft-deadline
(module
  (memory (export "memory") 1)
  (table $t 10000 funcref)
  (func (export "_start")
    (loop $l (table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 9999)) (br $l))))
