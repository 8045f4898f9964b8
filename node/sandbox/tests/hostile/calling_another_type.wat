;; expect: service-failed
;; says: another type
(module
  (memory (export "memory") 1)
  (table funcref (elem $f))
  (func $f)
  (func (export "_start")
    (drop (call_indirect (result i32) (i32.const 0)))))
