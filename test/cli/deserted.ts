/** A program that says something on standard error when its input ends, and is there a while later. */
import * as Interruption from "../../src/cli/Interruption.ts"

Interruption.listen(() => "Interrupted")
process.stdin.resume().on("end", () => {
  for (const word of ["nobody", "reads", "this"]) process.stderr.write(`${word}\n`)
  setTimeout(() => process.stdout.write("still there\n", () => process.exit()), 200)
})
process.stdout.write("ready\n")
