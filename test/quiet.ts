/** Imported by tests that ask for a GPU: the runtime need not tell on standard error that this machine has none. */
import { env } from "onnxruntime-node"

env.logLevel = "fatal"
