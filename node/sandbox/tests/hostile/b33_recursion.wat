;; expect: service-failed
;; says: its stack is full in deeper
(module
  (memory (export "memory") 1)
  (func $deeper (call $deeper))
  (func (export "_start")
    (call $deeper)))
