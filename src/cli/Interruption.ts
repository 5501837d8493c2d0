/**
 * Interruption: how the program ends when a person or the system tells it to.
 *
 * The first signal interrupts the command, which closes its files; the engine ends after the run it is in. Where that
 * takes long, or at a second signal, the process ends at once. Either way the exit code is 130: what is on the disk is
 * whole at every moment, so nothing is lost by it.
 *
 * A terminal that is closed hangs up, which is told like any signal, once or several times and beside others. It is no
 * sign of impatience, so the command has its time to close its files, though nothing can be written to a terminal then.
 */
import { existsSync } from "node:fs"
import * as Exit from "./Exit.ts"

/** Milliseconds that the engine may take to end by itself. */
const patience = 2000

/**
 * Ends the process with the exit code without waiting for its threads. `process.exit` would tear the engine's thread
 * out of native code, which ends with an abort: so the process becomes another program, one that does nothing but exit.
 */
const endAtOnce = (): never => {
  const shell = "/bin/sh"
  if (typeof process.execve === "function" && existsSync(shell)) {
    process.removeAllListeners("warning")
    process.execve(shell, ["sh", "-c", `exit ${Exit.interruptedCode}`], {})
  }
  // Where there is no such thing, the signal itself: shells report it as 130, too.
  process.removeAllListeners("SIGINT")
  process.kill(process.pid, "SIGINT")
  return process.exit(Exit.interruptedCode)
}

/** Listens for signals; `words` is what is said by a process that ends at once. */
export const listen = (words: () => string, wait: number = patience): void => {
  let signals = 0
  const end = () => {
    process.stderr.write(`\n${words()}\n`)
    endAtOnce()
  }
  const onSignal = () => {
    if (signals++ > 0) end()
    else setTimeout(end, wait).unref()
  }
  process.on("SIGINT", onSignal)
  process.on("SIGTERM", onSignal)
  process.on("SIGHUP", () => {
    if (signals > 0) return
    // What listens to a signal that ends the program, such as Effect's runtime, does not listen to this one.
    process.emit("SIGTERM", "SIGTERM")
    signals = 0
  })
  // Without a listener it would be an error that nobody has caught.
  process.stderr.on("error", () => {})
}
