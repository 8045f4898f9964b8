// expect: service-failed
export function run() { const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); return proxy; }
