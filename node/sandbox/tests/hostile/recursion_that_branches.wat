;; expect: soft-deadline service-failed
(module
  (memory (export "memory") 1)
  (func $f (param $n i32) (result i32)
    (if (result i32) (i32.lt_s (local.get $n) (i32.const 2)) (then (i32.const 1)) (else
      (i32.add (call $f (i32.sub (local.get $n) (i32.const 1))) (call $f (i32.sub (local.get $n) (i32.const 2)))))))
  (func (export "_start")
    (drop (call $f (i32.const 40)))))
