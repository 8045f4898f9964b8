// expect: service-failed
export async function run() { let all = ""; for (const name of ["msm", "msm-web", "./", "..", ".", "./\0", "./a.js\0", "\ud800", "./".repeat(1e5)]) await import(name).then(() => { all += name; }, () => {}); if (!all) throw new Error("none"); return all; }
