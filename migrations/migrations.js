import journal from './meta/_journal.json';
import m0000 from './0000_ledger.sql';
import m0001 from './0001_append-only.sql';
import m0002 from './0002_refusals.sql';
import m0003 from './0003_lists.sql';
import m0004 from './0004_positions.sql';
import m0005 from './0005_what-a-change-wrote.sql';
import m0006 from './0006_plain-ids.sql';
import m0007 from './0007_keys-by-subject.sql';

  export default {
    journal,
    migrations: {
      m0000,
m0001,
m0002,
m0003,
m0004,
m0005,
m0006,
m0007
    }
  }
  