/**
 * Bounded: code out of files of other people, such as patterns and templates, that has to come to an end.
 */
import { Predicate } from "effect"
import * as vm from "node:vm"

const context = vm.createContext({ run: undefined })
const script = new vm.Script("run()")

/**
 * What `run` gives; throws what it throws, and an error of its own when it takes longer than so many milliseconds.
 *
 * A plain call cannot be stopped from outside, one from a script can, also in the middle of a pattern that backtracks.
 */
export const within = <A>(milliseconds: number, run: () => A): A => {
  context["run"] = run
  try {
    return script.runInContext(context, { timeout: milliseconds })
  } catch (cause) {
    // It is an error of the context's own, which is no Error here.
    const stopped = Predicate.hasProperty(cause, "code") && cause.code === "ERR_SCRIPT_EXECUTION_TIMEOUT"
    throw stopped ? new Error(`it takes longer than ${milliseconds / 1000} s`) : cause
  } finally {
    context["run"] = undefined
  }
}
