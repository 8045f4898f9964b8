// expect: soft-deadline
export async function run() { const again = () => ({ then: (done) => done(again()) }); return again(); }
