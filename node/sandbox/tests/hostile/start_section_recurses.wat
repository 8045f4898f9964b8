;; expect: service-failed
(module
  (memory (export "memory") 1)
  (func $first (call $first))
  (start $first)
  (func (export "_start")))
