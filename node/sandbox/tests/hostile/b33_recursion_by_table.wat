;; expect: service-failed
;; says: its stack is full
(module
  (memory (export "memory") 1)
  (type $t (func))
  (table funcref (elem $f))
  (func $f (call_indirect (type $t) (i32.const 0)))
  (func (export "_start")
    (call $f)))
