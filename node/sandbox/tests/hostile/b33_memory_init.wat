;; expect: soft-deadline
(module
  (memory (export "memory") 1)
  (data $d "abcd")
  (func (export "_start")
    (loop $l (memory.init $d (i32.const 0) (i32.const 0) (i32.const 4)) (br $l))))
