;; expect: service-failed
;; says: gave up
(module
  (memory (export "memory") 1)
  (table $t 1 funcref)
  (func (export "_start")
    (loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 1)) (i32.const -1))))
    (if (i32.ne (table.size $t) (i32.const 10000)) (then (unreachable)))
    (unreachable)))
