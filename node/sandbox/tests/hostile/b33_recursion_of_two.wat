;; expect: service-failed
;; says: its stack is full
(module
  (memory (export "memory") 1)
  (func $one (call $two) (drop (i32.const 1)))
  (func $two (call $one) (drop (i32.const 2)))
  (func (export "_start")
    (call $one)))
