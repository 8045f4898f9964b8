// expect: service-failed
export async function run() { return import("data:text/javascript,export default 1"); }
