// expect: service-failed
export { run } from "../../../../etc/passwd";
