;; expect: service-failed
;; says: its stack is full
(module
  (memory (export "memory") 1)
  (func $f (param v128) (result v128) (local $a v128) (local $b v128) (local $c v128)
    (local.set $a (i8x16.add (local.get 0) (local.get 0)))
    (local.set $b (i16x8.add (local.get $a) (local.get 0)))
    (local.set $c (call $f (local.get $b)))
    (i32x4.add (i32x4.add (local.get $a) (local.get $b)) (local.get $c)))
  (func (export "_start")
    (drop (call $f (v128.const i64x2 1 2)))))
