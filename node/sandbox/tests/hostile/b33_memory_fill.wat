;; expect: soft-deadline deadline
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (memory.grow (i32.const 1023)))
    (loop $l (memory.fill (i32.const 0) (i32.const 7) (i32.const 0x4000000)) (br $l))))
