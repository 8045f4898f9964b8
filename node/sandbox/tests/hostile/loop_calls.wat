;; expect: soft-deadline
(module
  (memory (export "memory") 1)
  (func $nothing)
  (func (export "_start")
    (loop $l (call $nothing) (br $l))))
