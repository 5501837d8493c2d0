/**
 * A run of the world in a process of its own, which kills itself: `node killed.ts DIR CALLS`. It dies with SIGKILL at
 * the beginning of a call, once so many have ended. Each ended call is a line in `DIR.calls`.
 */
import { Effect } from "effect"
import { appendFileSync } from "node:fs"
import { models as mocks, runIn } from "./Fixture.ts"
import { models, prompts, settings } from "./World.ts"

const [dir = "", most = "Infinity"] = process.argv.slice(2)
let ended = 0

const service = models({
  begins: () =>
    Effect.sync(() => {
      if (ended >= Number(most)) process.kill(process.pid, "SIGKILL")
    }),
  ends: (call) =>
    Effect.sync(() => {
      appendFileSync(`${dir}.calls`, `${call}\n`)
      ended++
    })
})

await Effect.runPromise(runIn(dir, mocks(), { service, prompts, settings }))
