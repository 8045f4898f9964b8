;; expect: bad-package
;; says: it is a component
(component)
