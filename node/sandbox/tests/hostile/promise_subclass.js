// expect: soft-deadline
export async function run() { class P extends Promise { constructor(act) { super(act); for (;;) {} } } return new P(() => {}); }
