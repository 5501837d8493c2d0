/** Turns, for the scripts in JavaScript: the arguments and the lines of `turns.py`. */
import { createInterface } from "node:readline"

/** The options that all scripts take, for `parseArgs`. */
export const options = {
  batch: { type: "string", default: "8" },
  length: { type: "string", default: "64" },
  tokens: { type: "string", default: "64" },
  turns: { type: "string", default: "3" },
  led: { type: "boolean", default: false }
} as const

const round = (x: number) => Math.round(1000 * x) / 1000
const say = (line: object) => console.log(JSON.stringify(line))

/** Tells that the work is warm; then whether there is another turn, once it is there. */
const begin = ({ led, turns }: { readonly led: boolean; readonly turns: string }) => {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  say({ ready: true })
  return async (done: number): Promise<boolean> => (led ? (await lines.next()).done !== true : done < Number(turns))
}

/** Measures from now on; what it gives prints the line of a turn that did so many units. */
const watch = (precision: string): ((units: number) => void) => {
  const cpu = process.cpuUsage()
  const started = performance.now()
  return (units) => {
    const seconds = (performance.now() - started) / 1000
    const used = process.cpuUsage(cpu)
    say({
      precision,
      units,
      seconds: round(seconds),
      cpu: round((used.user + used.system) / 1e6),
      rate: round(units / seconds),
      peak_rss_gb: round(process.resourceUsage().maxRSS / 2 ** 20)
    })
  }
}

/** Turns of a function that gives the units of work it did, as `take` of `turns.py`. */
export const take = async (
  values: { readonly led: boolean; readonly turns: string; readonly precision: string },
  warmUp: () => Promise<unknown>,
  turn: () => Promise<number>
): Promise<void> => {
  await warmUp()
  const another = begin(values)
  for (let done = 0; await another(done); done++) {
    const report = watch(values.precision)
    report(await turn())
  }
}
