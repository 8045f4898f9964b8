;; expect: soft-deadline
(module
  (memory (export "memory") 1)
  (func $first (loop $l (br $l)))
  (start $first)
  (func (export "_start")))
