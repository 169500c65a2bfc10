export {
  type ProtectedServer,
  type ProtectedServerKnobs,
  startProtectedServer,
} from "../../demo/protected.ts";
