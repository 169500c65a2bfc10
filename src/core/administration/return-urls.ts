/** What we add to the URLs that browsers are sent to at the end of a way: nobody may register one that has it already. */
export const ADDED_PARAMS = { confirmUrl: ["consent_code"], doneUrl: ["consent_id", "status"] };
