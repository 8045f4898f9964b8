;; expect: soft-deadline
(module
  (memory (export "memory") 1)
  (func (export "_start") (local $x f64)
    (loop $l (local.set $x (f64.sqrt (f64.add (local.get $x) (f64.const 1.5)))) (br $l))))
