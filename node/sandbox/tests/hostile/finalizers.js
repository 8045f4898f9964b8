// expect: service-failed
export function run() { return new FinalizationRegistry(() => {}); }
