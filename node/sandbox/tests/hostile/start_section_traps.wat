;; expect: service-failed
;; says: gave up
(module
  (memory (export "memory") 1)
  (func $first (unreachable))
  (start $first)
  (func (export "_start")))
