/** A program whose thread hears nothing, as one in the middle of native code: `node blocked.ts MILLISECONDS`. */
import { Worker } from "node:worker_threads"
import * as Interruption from "../../src/cli/Interruption.ts"

Interruption.listen(() => "Interrupted; to go on: charter run", Number(process.argv[2]))
const thread = new Worker("Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)", { eval: true })
thread.once("online", () => process.stdout.write("ready\n"))
